"""``python -m mlvpn`` is the command ``mlvpn``."""

from mlvpn.cli import main

main()
