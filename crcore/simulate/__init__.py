"""Frames whose truth is known: rays (`rays`), the sky (`sky`), and exposures of both (`observe`)."""
