-- The first schema. Amounts in wei and gas are numeric(78): they hold uint256 exactly.
-- Times are UTC. Text of contexts and decisions is the JSON frame itself, byte for byte, for replay.

-- This ledger's own identity: part of every intent id, so that two ledgers never name the same effect.
create table ledger (
    id         uuid not null default gen_random_uuid(),
    created_at timestamptz not null default now(),
    is_only    boolean primary key default true check (is_only)
);
insert into ledger default values;

create table job_calls (
    id          bigint generated always as identity primary key,
    plugin      text not null,
    trigger     text not null check (trigger in ('cron', 'event', 'manual')),
    identity    text not null,           -- what makes a duplicate impossible: (plugin, due slot), (topic, event), key
    topic       text,
    payload     text not null default '',
    principal   text not null,           -- who asked: 'schedule', 'pg:<topic>', 'uid:<n>'
    due_at      timestamptz not null,
    fired_at    timestamptz not null,
    deadline_at timestamptz not null,
    attempts    integer not null default 0,   -- how often a worker ended while it decided this call
    state       text not null default 'queued' check (state in ('queued', 'decided', 'done')),
    outcome     text check (outcome in ('acted', 'noop', 'denied', 'failed', 'expired', 'dead')),
    reason      text,
    finished_at timestamptz,
    unique (plugin, identity),
    check ((state = 'done') = (outcome is not null)),
    check ((state = 'done') = (finished_at is not null))
);
create index job_calls_open on job_calls (id) where state <> 'done';
create index job_calls_by_plugin on job_calls (plugin, id desc);

create table decisions (
    call_id    bigint primary key references job_calls (id),
    plugin     text not null,
    generation bigint not null,
    digest     text not null,            -- of the plugin's code
    attempt    integer not null,
    context    text not null,            -- the Decide frame
    outcome    text not null,            -- the Act or Noop as JSON
    decided_at timestamptz not null,
    decide_ms  double precision not null
);

create table plugin_state (
    plugin text not null,
    key    text not null,
    value  text not null,
    primary key (plugin, key)
);

create table trigger_cursors (
    plugin      text not null,
    trigger_key text not null,
    due_at      timestamptz not null,    -- the last slot that became a JobCall
    primary key (plugin, trigger_key)
);

create table wallets (
    chain_id   bigint not null,
    address    text not null,
    next_nonce bigint not null,
    primary key (chain_id, address)
);

-- One effect wanted on chain. One intent per decision: the call's id is its key.
create table intents (
    call_id     bigint primary key references job_calls (id),
    plugin      text not null,
    vault       text not null,
    chain_id    bigint not null,
    wallet      text not null,
    target      text not null,
    calldata    bytea not null,
    value_wei   numeric(78) not null,
    state       text not null check (state in ('planned', 'signed', 'sent', 'included', 'final', 'reverted', 'denied',
                                               'unresolved')),
    nonce       bigint,
    reason      text,
    created_at  timestamptz not null,
    updated_at  timestamptz not null,
    unique (chain_id, wallet, nonce)
);
create index intents_open on intents (call_id) where state not in ('final', 'reverted', 'denied');
create index intents_by_vault on intents (vault, created_at desc);

-- One signed transaction for an intent. The bytes under a hash never change, and are here before they are broadcast.
create table attempts (
    hash                     text primary key,
    call_id                  bigint not null references intents (call_id),
    nonce                    bigint not null,
    raw                      bytea not null,
    max_fee_per_gas_wei      numeric(78) not null,
    max_priority_fee_wei     numeric(78) not null,
    gas_limit                bigint not null,
    signed_at                timestamptz not null,
    signed_block             bigint not null,
    accepted_at              timestamptz,       -- when a node first said that it has it
    included_block           bigint,
    included_block_hash      text,
    is_success               boolean,
    gas_used                 bigint,
    effective_gas_price_wei  numeric(78),
    error                    text               -- what the node said last, if it did not accept it
);
create index attempts_by_call on attempts (call_id, signed_at);

-- Kill switches. A paused scope decides nothing until it is resumed.
create table pauses (
    scope     text not null check (scope in ('plugin', 'vault', 'all')),
    name      text not null,
    paused_by text not null,
    paused_at timestamptz not null,
    primary key (scope, name)
);

create table worker_events (
    id         bigint generated always as identity primary key,
    plugin     text not null,
    generation bigint not null,
    kind       text not null,
    detail     text not null,
    at         timestamptz not null
);
create index worker_events_by_plugin on worker_events (plugin, id desc);

-- For statements whose effect must be exactly what was expected: raising here rolls the whole commit back.
create function require(is_met boolean, what text) returns void language plpgsql as $$
begin
    if is_met is not true then
        raise exception '%', what using errcode = 'integrity_constraint_violation';
    end if;
end $$;
