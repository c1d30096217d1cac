"""``python -m crcore`` is the ``crcore`` command."""

import sys

from crcore.cli import main

sys.exit(main())
