"""Web pages about models."""

from multimodal.web.demo import make_demo
from multimodal.web.page import Demo, Photo, Search, render_page

__all__ = ["Demo", "Photo", "Search", "make_demo", "render_page"]
