"""`python -m multimodal.cli`, for torchrun and wherever the script is not on the path."""

import sys

from multimodal.cli import main

if __name__ == "__main__":
    sys.exit(main())
