-- runnerd's outbox: a table in the database of an indexer, whose rows become calls of plugins. None is lost, none comes
-- twice, and they come in the order in which their transactions were committed. Running this again changes nothing.
--
-- To announce something, in the transaction that makes it true:
--     select runnerd_outbox.publish('trades', '{"id": 7, "side": "buy"}', key => 'pool 3');
--
-- Who may do what (role names are yours):
--     grant usage on schema runnerd_outbox to indexer, runnerd;
--     grant execute on all functions in schema runnerd_outbox to indexer;
--     grant select on all tables in schema runnerd_outbox to runnerd;
--     grant select on all sequences in schema runnerd_outbox to runnerd;
--
-- Why ids are given at commit. A number that is taken when a row is inserted says nothing about when the row can be
-- seen: of two transactions that write at the same time, the one with the higher number may be committed first, and a
-- reader that goes on from the highest number it has seen never sees the other. The usual remedy, to read only rows of
-- transactions older than every one that still runs (pg_snapshot_xmin), stops all events while any transaction of the
-- whole cluster is open, and delivers the rows of one key in the order in which their transactions began. Here a
-- deferred trigger takes a lock and then the number, when the transaction has nothing left to do but commit, and the
-- lock lasts until it can be seen. So whoever sees id 8 sees all that there will ever be below 8, and ids follow the
-- order of commits. The lock costs nothing that NOTIFY does not cost already: PostgreSQL lets one transaction at a time
-- that has notified commit. It is held for the length of a commit, not of a transaction; and since it is the last lock
-- that a transaction takes, it is part of no deadlock (unless the application has deferred triggers that take locks).

begin;

select pg_advisory_xact_lock(8247333821021184111);  -- two who install at once

create schema if not exists runnerd_outbox;

-- Which outbox this is. Another id is another outbox: who followed the former one begins at the end of this one.
create table if not exists runnerd_outbox.about (
    is_one  boolean primary key default true check (is_one),
    id      uuid not null default gen_random_uuid(),
    version integer not null
);
insert into runnerd_outbox.about (version) values (1) on conflict do nothing;

create table if not exists runnerd_outbox.events (
    entry      bigint generated always as identity primary key,
    id         bigint unique,           -- given when its transaction commits: everybody else sees it with its id
    topic      text not null check (octet_length(topic) between 1 and 63),
    key        text check (octet_length(key) <= 500),
    payload    text not null default '',
    created_at timestamptz not null default clock_timestamp()
               check (created_at between '2000-01-01' and '3000-01-01')
);
create index if not exists events_by_topic on runnerd_outbox.events (topic, id);
create sequence if not exists runnerd_outbox.event_ids;
create table if not exists runnerd_outbox.turn ();  -- empty for ever: its lock says whose turn it is to commit

create or replace function runnerd_outbox.number_event() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if current_setting('synchronous_commit') = 'off' then
        -- What is acted on must survive a crash: otherwise its id would be given again, to another event.
        perform set_config('synchronous_commit', 'local', true);
    end if;
    lock table runnerd_outbox.turn in exclusive mode;
    update runnerd_outbox.events set id = nextval('runnerd_outbox.event_ids') where entry = new.entry;
    perform pg_notify('runnerd_outbox', new.topic);
    return null;
end
$$;

do $$
begin
    if not exists (select from pg_trigger where tgrelid = 'runnerd_outbox.events'::regclass and tgname = 'number_event')
    then
        create constraint trigger number_event after insert on runnerd_outbox.events
            deferrable initially deferred for each row execute function runnerd_outbox.number_event();
    end if;
end
$$;

create or replace function runnerd_outbox.publish(topic text, payload text default '', key text default null)
returns void language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into runnerd_outbox.events (topic, payload, key) values ($1, coalesce($2, ''), $3)
$$;
create or replace function runnerd_outbox.publish(topic text, payload json, key text default null)
returns void language sql set search_path = pg_catalog, pg_temp as $$
    select runnerd_outbox.publish($1, $2::text, $3)
$$;
create or replace function runnerd_outbox.publish(topic text, payload jsonb, key text default null)
returns void language sql set search_path = pg_catalog, pg_temp as $$
    select runnerd_outbox.publish($1, $2::text, $3)
$$;

revoke all on all functions in schema runnerd_outbox from public;

commit;
