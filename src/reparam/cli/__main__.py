"""`python -m reparam.cli`, for launchers that start modules."""

import sys

from reparam.cli import main

sys.exit(main())
