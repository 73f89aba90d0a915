"""`hardfirst doctor`: facts are gathered once, checks are pure functions of them; platforms bring their own checks."""
