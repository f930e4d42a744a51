"""Servers a user would recognise, and the demo that breaks one of them on purpose."""
