"""What people look at: projects, queue, rounds, review, figures, events, made here without anything from elsewhere."""

from common.web.pages.routes import blueprint, problem, wants_page

__all__ = ["blueprint", "problem", "wants_page"]
