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
    primary key (consumer, result_no)
);
