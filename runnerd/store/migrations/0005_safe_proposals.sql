-- Transactions of a Safe that wait for its owners' signatures, and the signatures. One row per intent of such a vault.

create table safe_proposals (
    call_id      bigint primary key references intents (call_id),
    chain_id     bigint not null,
    safe         text not null,
    safe_nonce   bigint not null,         -- the Safe's own nonce, not the operator's
    safe_tx_hash text not null,           -- what owners sign (EIP-712)
    "to"         text not null,
    value_wei    numeric(78) not null,
    data         bytea not null,
    operation    smallint not null check (operation in (0, 1)),
    opened_block bigint not null,         -- from here on the Safe may have carried it out
    created_at   timestamptz not null,
    deadline_at  timestamptz not null,
    state        text not null check (state in ('collecting', 'complete', 'ended'))
);
-- One at a time per Safe, so that no nonce of it is asked for twice.
create unique index safe_proposals_open on safe_proposals (chain_id, safe) where state <> 'ended';

-- By call, not by hash alone: who signed for one decision has not signed for a later one with the same bytes.
create table safe_signatures (
    call_id      bigint not null references safe_proposals (call_id),
    safe_tx_hash text not null,
    owner        text not null,
    signature    bytea not null,
    by           text not null,           -- who brought it: 'uid:<n>'
    at           timestamptz not null,
    primary key (call_id, owner)
);
