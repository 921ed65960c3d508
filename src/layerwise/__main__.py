"""`python -m layerwise`."""

import sys

from layerwise.cli.main import main

sys.exit(main())
