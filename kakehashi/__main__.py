"""`python -m kakehashi`: the same as the `kakehashi` command."""

import sys

from kakehashi.cli import main

if __name__ == "__main__":
    sys.exit(main())
