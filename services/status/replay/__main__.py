"""Rebuild MongoDB from the log: `python -m services.status.replay`."""

from services.status.replay.replay import main

if __name__ == "__main__":
    main()
