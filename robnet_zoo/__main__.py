"""`python -m robnet_zoo`."""

from robnet_zoo.cli import main

main()
