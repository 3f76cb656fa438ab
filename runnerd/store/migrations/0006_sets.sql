-- Many records of the audit trail in one statement. The chain is the one of 0004_audit.sql, byte for byte: the last row
-- is read once, and each record follows the one before it. A record whose key stands already is left out, and so is the
-- second one of a key within the call.
create function audit_append(at_ timestamptz[], kind_ text[], key_ text[], call_id_ bigint[], body_ text[])
returns void language plpgsql set runnerd.has_chained = 'on' as $$
declare
    last_seq  bigint;
    last_hash bytea;
    one       record;
    seqs      bigint[] := '{}';
    befores   bytea[] := '{}';
    hashes    bytea[] := '{}';
begin
    select array_agg(u.at order by n), array_agg(u.kind order by n), array_agg(u.key order by n),
           array_agg(u.call_id order by n), array_agg(u.body order by n)
    into at_, kind_, key_, call_id_, body_
    from (
        select distinct on (a.key) a.* from unnest(at_, kind_, key_, call_id_, body_)
            with ordinality a (at, kind, key, call_id, body, n) order by a.key, a.n
    ) u
    where not exists (select from audit_records where key = u.key);
    if key_ is null then
        return;
    end if;
    select seq, hash into last_seq, last_hash from audit_records order by seq desc limit 1;
    if not found then
        last_seq := 0;
        select sha256(convert_to('runnerd audit 1', 'UTF8') || uuid_send(id)) into last_hash from ledger;
    end if;
    for one in
        select * from unnest(at_, kind_, key_, call_id_, body_) u (at, kind, key, call_id, body)
    loop
        last_seq := last_seq + 1;
        seqs := seqs || last_seq;
        befores := befores || last_hash;
        last_hash := sha256(
            int8send(last_seq) || int8send((extract(epoch from one.at) * 1000000)::bigint)
            || case when one.call_id is null then '\x00'::bytea else '\x01'::bytea end
            || int8send(coalesce(one.call_id, 0)) || last_hash
            || convert_to(one.kind, 'UTF8') || '\x00'::bytea || convert_to(one.key, 'UTF8') || '\x00'::bytea
            || convert_to(one.body, 'UTF8')
        );
        hashes := hashes || last_hash;
    end loop;
    insert into audit_records (seq, at, kind, key, call_id, body, previous_hash, hash)
    select * from unnest(seqs, at_, kind_, key_, call_id_, body_, befores, hashes);
end $$;

-- Every other way of inserting is still chained row by row.
drop trigger audit_chain on audit_records;
create trigger audit_chain before insert on audit_records for each row
    when (current_setting('runnerd.has_chained', true) is distinct from 'on') execute function audit_chain();
alter table audit_records enable always trigger audit_chain;
