-- JobResults in the order in which they were committed, and how far each consumer has heard of them.
-- One writer holds the ledger's lock, so that a lower number is never seen after a higher one.

create sequence job_result_numbers;
alter table job_calls add column result_no bigint unique;
update job_calls c set result_no = n.no
from (select id, row_number() over (order by finished_at, id) as no from job_calls where state = 'done') n
where c.id = n.id;
select setval('job_result_numbers', (select coalesce(max(result_no), 0) + 1 from job_calls), false);
alter table job_calls add check ((state = 'done') = (result_no is not null));

create table consumer_cursors (
    consumer  text primary key,
    result_no bigint not null,          -- the last that it has heard of, or was given up
    moved_at  timestamptz not null
);

create table dead_letters (
    consumer  text not null,
    result_no bigint not null,
    attempts  integer not null,
    reason    text not null,
    at        timestamptz not null,
    is_wanted boolean not null default false,   -- an operator wants it handed over once more
    primary key (consumer, result_no)
);

-- The answer to a call of a chain is a call of its own, which the supervisor decides.
alter table job_calls drop constraint job_calls_trigger_check;
alter table job_calls add constraint job_calls_trigger_check
    check (trigger in ('cron', 'event', 'block', 'log', 'metric', 'webhook', 'custom', 'manual', 'answer'));
