"""What `runnerctl keys` asks for: make, list and revoke keys of the HTTP API."""

from collections.abc import Mapping
from datetime import timedelta
from typing import assert_never

from protocol.triggers import Webhook
from runnerd.clock import Clock
from runnerd.control import key_messages, messages
from runnerd.control.key_messages import CreateKey, GetKeys, KeyCreated, KeyRequest, Keys, KeyStatus, RevokeKey
from runnerd.control.messages import ControlError, Reply
from runnerd.store import audit, keys
from runnerd.store.ledger import Ledger
from runnerd.supervisor.host import PluginHost
from runnerd.webhooks.keys import ApiKey, KeyKind, KeyRing, digest_of, make_secret


class KeyCommands:
    """Changes the ledger first, then the ring. `plugins` are the configured ones."""

    def __init__(self, ring: KeyRing, plugins: Mapping[str, PluginHost], store: Ledger, clock: Clock) -> None:
        self._ring = ring
        self._plugins = plugins
        self._store = store
        self._clock = clock

    async def handle(self, request: KeyRequest, principal: str) -> Reply:
        """Carry out one request of `principal`. Raises ControlError, StoreError."""
        match request:
            case CreateKey():
                return await self._create(request, principal)
            case GetKeys():
                return Keys(keys=[self._status(key) for key in self._ring.every()])
            case RevokeKey():
                return await self._revoke(request.name, principal)
            case _:
                assert_never(request)

    async def _create(self, request: key_messages.CreateKey, principal: str) -> Reply:
        unknown = sorted(set(request.plugins) - set(self._plugins))
        if unknown:
            known = ", ".join(sorted(self._plugins)) or "none"
            raise ControlError(f"there is no plugin {unknown[0]!r}; there are: {known}")
        now = self._clock.now()
        secret = make_secret(request.name)
        key = ApiKey(
            name=request.name,
            kind=KeyKind.SIGNING if request.is_signing else KeyKind.BEARER,
            digest=digest_of(secret),
            plugins=tuple(sorted(set(request.plugins))),
            created_at=now,
            created_by=principal,
            expires_at=None if request.expires_in_s is None else now + timedelta(seconds=request.expires_in_s),
        )
        if self._ring.find(key.name) is not None:
            raise ControlError(f"there is, or was, a key {key.name!r}: a name is used once, so take another one")
        trail = audit.command("create_key", principal, now, name=key.name, plugins=",".join(key.plugins))
        added, _ = await self._store.commit(keys.add(key), audit.append(trail))
        if not added:
            raise ControlError(f"there is, or was, a key {key.name!r}: a name is used once, so take another one")
        self._ring.add(key)
        deaf = [name for name in key.plugins if self._is_deaf(name)]
        return KeyCreated(key=self._status(key), secret=secret, without_webhook=deaf)

    def _is_deaf(self, plugin: str) -> bool:
        """Whether it is known that no webhook calls it."""
        host = self._plugins.get(plugin)
        is_known = host is not None and (host.declared is not None or host.config.triggers is not None)
        return host is not None and is_known and not any(isinstance(one, Webhook) for one in host.triggers)

    async def _revoke(self, name: str, principal: str) -> Reply:
        key = self._ring.find(name)
        if key is None:
            known = ", ".join(each.name for each in self._ring.every()) or "none"
            raise ControlError(f"there is no key {name!r}; there are: {known}")
        now = self._clock.now()
        # In force at once, and durable before the operator is told so.
        self._ring.revoke(name, principal, now)
        trail = audit.command("revoke_key", principal, now, name=name)
        await self._store.commit(keys.revoke(name, principal, now), audit.append(trail))
        return messages.Done(text=f"{name} is revoked")

    def _status(self, key: ApiKey) -> KeyStatus:
        return KeyStatus(
            name=key.name,
            kind=key.kind.value,
            plugins=list(key.plugins),
            state=key.state(self._clock.now()),
            created_at=key.created_at,
            created_by=key.created_by,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            revoked_by=key.revoked_by,
        )
