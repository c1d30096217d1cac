"""The threshold explorer (section 5, Fig 12), in the manner of SAOImage DS9.

``session`` goes from a threshold and edits to a mask and its numbers, ``screen`` from a session to pictures, ``saved``
keeps masks; none of them needs a browser. ``controls`` are the widgets, ``page`` is what they do, ``opening`` what can
be opened; ``app`` serves the page by Voilà, and ``still`` takes its picture in a headless browser.
"""
