-- Where a call comes from, which job of the plugin it is for, and what becomes of it beside an older one.
-- A block is kept with its hash: a reorg makes another one of the same number.

alter table job_calls drop constraint job_calls_trigger_check;
alter table job_calls add constraint job_calls_trigger_check
    check (trigger in ('cron', 'event', 'block', 'log', 'metric', 'webhook', 'custom', 'manual'));
alter table job_calls
    add column job          text not null default 'decide',
    add column source       text not null default '',      -- which trigger of the plugin fired; '' before this migration
    add column overlap      text not null default 'parallel'
                            check (overlap in ('parallel', 'skip', 'queue', 'coalesce')),
    add column block_number bigint,
    add column block_hash   text,
    add column block_time   bigint,
    add check ((block_number is null) = (block_hash is null) and (block_number is null) = (block_time is null));

-- What a reorg takes back is found by the block that it was about.
create index job_calls_by_block on job_calls (block_hash) where block_hash is not null;

-- How far a producer has come, in its own words: moved in the transaction of the calls that it made of that.
create table producer_positions (
    producer text not null,             -- 'outbox', 'log' …
    key      text not null,             -- what it follows: a topic, a chain and a plugin's trigger
    position text not null,             -- JSON of the producer's
    moved_at timestamptz not null,
    primary key (producer, key)
);
