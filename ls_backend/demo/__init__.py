"""`make demo`: a real Label Studio, hardfirst beside it, and a scripted annotator where there is an oracle."""
