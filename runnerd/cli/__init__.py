"""The two command lines: `runnerd` (`daemon`) and `runnerctl` (`ctl` and one file per command)."""
