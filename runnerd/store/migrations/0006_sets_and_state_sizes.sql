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

-- How much state each plugin keeps: bytes of its keys and values (UTF-8), and keys. Kept by triggers, whoever writes, so
-- that a limit is judged inside of the commit that would exceed it, without reading all of the state.
create table plugin_state_sizes (
    plugin text primary key,
    bytes  bigint not null,
    keys   bigint not null
);
insert into plugin_state_sizes (plugin, bytes, keys)
    select plugin, sum(octet_length(key) + octet_length(value)), count(*) from plugin_state group by plugin;

create function plugin_state_count() returns trigger language plpgsql as $$
begin
    if tg_op = 'TRUNCATE' then
        delete from plugin_state_sizes;
        return null;
    end if;
    if tg_op in ('DELETE', 'UPDATE') then
        update plugin_state_sizes
        set bytes = bytes - octet_length(old.key) - octet_length(old.value), keys = keys - 1
        where plugin = old.plugin;
    end if;
    if tg_op in ('INSERT', 'UPDATE') then
        insert into plugin_state_sizes as s (plugin, bytes, keys)
        values (new.plugin, octet_length(new.key) + octet_length(new.value), 1)
        on conflict (plugin) do update set bytes = s.bytes + excluded.bytes, keys = s.keys + 1;
    end if;
    return null;
end $$;

create trigger plugin_state_count after insert or update or delete on plugin_state
    for each row execute function plugin_state_count();
create trigger plugin_state_emptied after truncate on plugin_state
    for each statement execute function plugin_state_count();

create function keep_state_within(plugin_ text, max_bytes bigint, max_keys bigint) returns void language plpgsql as $$
declare
    size plugin_state_sizes;
begin
    select * into size from plugin_state_sizes where plugin = plugin_;
    if size.bytes > max_bytes then
        raise exception 'over its state limit: % of % bytes', size.bytes, max_bytes using errcode = 'RD001';
    elsif size.keys > max_keys then
        raise exception 'over its state limit: % of % keys', size.keys, max_keys using errcode = 'RD001';
    end if;
end $$;
