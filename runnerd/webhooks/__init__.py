"""The supervisor's side of the HTTP API: the border, and the keys of those who may cross it."""
