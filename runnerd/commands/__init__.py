"""What the commands of the control socket do: `commands`, and what it hands on, by what they are about."""
