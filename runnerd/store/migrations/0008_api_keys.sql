-- Keys of the HTTP API. The secret itself is shown once and never stored: `digest` is its SHA-256. A plain hash is enough,
-- because the secret is 256 random bits and no password: there is nothing to guess, so nothing has to be slow.
-- A name is used once: it is part of its calls' identities and their principal, for ever.

create table api_keys (
    name       text primary key,
    kind       text not null check (kind in ('bearer', 'signing')),
    digest     bytea not null check (length(digest) = 32),
    plugins    text[] not null check (cardinality(plugins) > 0),
    created_at timestamptz not null,
    created_by text not null,           -- the principal: 'uid:<n>'
    expires_at timestamptz,
    revoked_at timestamptz,
    revoked_by text,
    check ((revoked_at is null) = (revoked_by is null))
);
