"""`python -m runnerd` is `runnerd`."""

from runnerd.cli.daemon import main

if __name__ == "__main__":
    main()
