-- Deadlines, cancellations, replacements beyond the first, and transactions of the operator that are not ours.

alter table intents
    add column deadline_at   timestamptz,
    add column route         text not null default 'public' check (route in ('public', 'private', 'private_first')),
    add column max_fee_per_gas_wei numeric(78),                                    -- the plugin's own cap
    add column cancel_as     text check (cancel_as in ('expired', 'cancelled')),   -- how it ends once the no-op is final
    add column cancel_reason text,
    drop constraint intents_state_check,
    add check (state in ('planned', 'signed', 'sent', 'included', 'final', 'reverted', 'denied', 'expired', 'cancelled',
                         'unresolved')),
    add check ((cancel_as is null) = (cancel_reason is null));
update intents set deadline_at = created_at + interval '10 minutes';
alter table intents alter column deadline_at set not null;

drop index intents_open;
create index intents_open on intents (call_id)
    where state not in ('final', 'reverted', 'denied', 'expired', 'cancelled');

alter table attempts
    add column kind    text not null default 'batch' check (kind in ('batch', 'noop')),
    add column dead_by text;      -- the transaction, not ours, that used its nonce for good: it can never take effect
create index attempts_by_nonce on attempts (nonce);

-- The operator's transactions that the ledger did not make. A nonce may be known before the transaction is found.
create table foreign_transactions (
    chain_id     bigint not null,
    wallet       text not null,
    nonce        bigint not null,
    hash         text,
    block        bigint,
    target       text,
    selector     text,
    value_wei    numeric(78),
    seen_at      timestamptz not null,
    adopted_by   text,            -- who said that it was meant so; until then its vaults are paused
    adopted_at   timestamptz,
    primary key (chain_id, wallet, nonce),
    check ((adopted_by is null) = (adopted_at is null))
);

-- No-ops for nonces that nothing of ours will use: what was there fell out of the chain and cannot be had again.
create table fillers (
    hash         text primary key,
    chain_id     bigint not null,
    wallet       text not null,
    nonce        bigint not null,
    raw          bytea not null,
    max_fee_per_gas_wei  numeric(78) not null,
    max_priority_fee_wei numeric(78) not null,
    signed_at    timestamptz not null,
    signed_block bigint not null
);
create index fillers_by_wallet on fillers (chain_id, wallet, nonce);

-- What an operator has turned while runnerd ran, in place of the configuration's value.
create table knobs (
    chain  text not null,
    name   text not null,
    value  numeric(78) not null,
    set_by text not null,
    set_at timestamptz not null,
    primary key (chain, name)
);
