"""The control socket: what `runnerctl` asks the supervisor. A unix socket, mode 0660, one JSON object a line."""
