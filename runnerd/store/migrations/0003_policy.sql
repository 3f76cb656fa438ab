-- What approved Decisions take of rolling limits and budgets, kill switches of single actions, and reducing mode.

-- Which actions an intent carries out: a kill switch of one of them is asked again before anything is signed.
-- Empty for intents from before this migration: nobody knows, so such a switch holds for them too.
alter table intents add column actions text[] not null default '{}';

-- One row for each thing a Decision counts against. Whether it still counts is read from its intent's state: what ended
-- without effect is given back by that alone. Plugin, vault and wallet are the intent's.
create table usage (
    call_id  bigint not null references intents (call_id),
    measure  text not null check (measure in ('argument', 'value', 'gas', 'transactions')),
    action   text not null default '',     -- of an argument: where it is limited
    argument text not null default '',
    amount   numeric(78) not null,         -- wei, or a count, or the sum of the argument's magnitudes
    at       timestamptz not null,         -- by the clock of budgets, which never runs back
    primary key (call_id, measure, action, argument)
);
create index usage_by_time on usage (at);

-- The last day as it stands already: an upgrade must not make a budget whole again.
insert into usage (call_id, measure, amount, at)
    select call_id, 'value', value_wei, created_at from intents
    where value_wei > 0 and created_at > now() - interval '2 days';
insert into usage (call_id, measure, amount, at)
    select call_id, 'transactions', 1, created_at from intents where created_at > now() - interval '2 days';

alter table pauses drop constraint pauses_scope_check;
alter table pauses add constraint pauses_scope_check check (scope in ('action', 'plugin', 'vault', 'all'));
alter table pauses add column mode text not null default 'paused' check (mode in ('paused', 'reducing'));
alter table pauses add constraint pauses_action_mode check (scope <> 'action' or mode = 'paused');
