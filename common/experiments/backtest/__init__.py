"""Active learning replayed on a labelled set: what would it have saved? Units, arms, rounds, and a report."""
