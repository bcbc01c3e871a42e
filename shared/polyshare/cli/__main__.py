import sys

from polyshare.cli import main

sys.exit(main())
