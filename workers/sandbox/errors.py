"""The one error of this package. `workers.birth` sends it to the supervisor as a Refused."""

from protocol.zygote import Layer


class SandboxRefusedError(Exception):
    """This host cannot give a layer that the plugin may not run without. The plugin is not started (fail closed).

    `reason` says what is missing and what to do; `runnerctl doctor` shows all layers of the host.
    """

    def __init__(self, layer: Layer, reason: str) -> None:
        super().__init__(f"{layer}: {reason}")
        self.layer = layer
        self.reason = reason
