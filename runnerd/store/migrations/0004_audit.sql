-- The audit trail: append-only, hash-chained, kept for ever. Its encoding is documented in runnerd/store/audit_chain.py,
-- which computes the same in Python, and in docs/adr/0017-audit-trail.md.
--
-- The chain is made here and not in the process: what was committed is the only truth after a lost connection. `seq` and
-- `previous_hash` come from the last row itself, so that a row that conflicts, or a transaction that is rolled back,
-- leaves no gap. Two writers at once would get the same `seq`, and the key refuses the second.

create table audit_records (
    seq           bigint primary key,      -- 1, 2, 3 … without a gap
    at            timestamptz not null,
    kind          text not null,
    key           text not null unique,    -- what makes a second record of the same thing impossible
    call_id       bigint,
    body          text not null,           -- canonical JSON, ASCII
    previous_hash bytea not null,
    hash          bytea not null           -- no index: looked for by `verify` alone, which reads every row anyway
);

create function audit_chain() returns trigger language plpgsql as $$
begin
    select last.seq + 1, last.hash into new.seq, new.previous_hash
    from audit_records last order by last.seq desc limit 1;
    if not found then
        new.seq := 1;
        select sha256(convert_to('runnerd audit 1', 'UTF8') || uuid_send(id)) into new.previous_hash from ledger;
    end if;
    new.hash := sha256(
        int8send(new.seq) || int8send((extract(epoch from new.at) * 1000000)::bigint)
        || case when new.call_id is null then '\x00'::bytea else '\x01'::bytea end || int8send(coalesce(new.call_id, 0))
        || new.previous_hash
        || convert_to(new.kind, 'UTF8') || '\x00'::bytea || convert_to(new.key, 'UTF8') || '\x00'::bytea
        || convert_to(new.body, 'UTF8')
    );
    return new;
end $$;

create function audit_refuse() returns trigger language plpgsql as $$
begin
    raise exception 'audit_records is append-only: % is refused', tg_op using errcode = 'integrity_constraint_violation';
end $$;

create trigger audit_chain before insert on audit_records for each row execute function audit_chain();
create trigger audit_append_only before update or delete or truncate on audit_records
    for each statement execute function audit_refuse();
-- Also in a session that replays a replication stream, which skips ordinary triggers.
alter table audit_records enable always trigger audit_chain;
alter table audit_records enable always trigger audit_append_only;

-- Calls up to `last_call` were there before the trail: what they did has no record, or not all of it.
insert into audit_records (at, kind, key, body)
select now(), 'opened', 'opened',
       format('{"last_call":%s,"ledger":"%s"}', coalesce((select max(id) from job_calls), 0), id)
from ledger;
