"""`python -m robnet_zoo.cli`."""

from robnet_zoo.cli import main

main()
