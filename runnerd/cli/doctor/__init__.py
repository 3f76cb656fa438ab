"""`runnerctl doctor`: one file per subject that is examined, each giving findings; `command` prints them."""
