/* Producers, readers and signals under enumerated and random schedules: sim.h. */
#include "sim.h"

/* ---- enumerated ---- */

TEST(two_producers_cross_a_boundary_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3700);
	program(0, RECORD(300), RECORD(16), END);
	program(1, RECORD(400), END, END);
	sim_explore(2);
}

TEST(two_producers_fill_a_sub_buffer_exactly_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 2, .start_pos = POS_END - 8192));
	sim_prefix(3700);
	program(0, RECORD(FILL), END, END);
	program(1, RECORD(FILL), RECORD(16), END);
	sim_explore(2);
}

TEST(two_producers_lap_unread_packets_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE, .start_pos = POS_END - 8192));
	sim_prefix(3990);
	sim_prefix(3990);
	program(0, RECORD(3000), END, END);
	program(1, RECORD(3000), END, END);
	sim_explore(2);
}

TEST(a_producer_laps_a_reader_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE, .start_pos = POS_END - 8192));
	sim_prefix(3990);
	sim_prefix(3990);
	program(0, RECORD(3990), RECORD(3990), RECORD(3990));
	sim.reader_turns = 2;
	sim_explore(2);
}

TEST(a_producer_laps_a_snapshot_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE));
	sim_prefix(3990);
	sim_prefix(3990);
	program(0, RECORD(3990), RECORD(3990), RECORD(3990));
	sim.reader_turns = 2;
	sim.habit = SNAPSHOTS;
	sim_explore(2);
}

TEST(two_producers_lap_a_reader_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE));
	sim_prefix(3990);
	sim_prefix(3990);
	program(0, RECORD(2000), END, END);
	program(1, RECORD(2000), END, END);
	sim.reader_turns = 1;
	sim_explore(2);
}

TEST(a_producer_finds_a_full_ring_being_read_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3990);
	sim_prefix(3990);
	program(0, RECORD(3000), RECORD(3000), END);
	program(1, RECORD(100), END, END);
	sim.reader_turns = 2;
	sim_explore(2);
}

TEST(a_discard_and_a_record_meet_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3500);
	program(0, DISCARD(200), RECORD(30), END);
	program(1, RECORD(250), DISCARD(16), END);
	sim_explore(3);
}

TEST(two_discards_and_a_flush_meet_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 2, .header = RINGBUF_LARGE));
	sim_prefix(100);
	program(0, DISCARD(20), END, END);
	program(1, DISCARD(33), END, END);
	program(2, FLUSH(0), END, END);
	sim_explore(2);
}

TEST(a_discard_that_opens_a_sub_buffer_meets_a_record_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3900);
	program(0, DISCARD(500), END, END);
	program(1, RECORD(500), END, END);
	sim.reader_turns = 1;
	sim_explore(2);
}

TEST(flushes_and_records_meet_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 4));
	sim_prefix(100);
	program(0, RECORD(100), RECORD(100), END);
	program(1, FLUSH(0), FLUSH_EMPTY(0), END);
	sim.reader_turns = 1;
	sim_explore(2);
}

TEST(finalize_meets_records_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 4));
	program(0, RECORD(100), END, END);
	program(1, RECORD(100), END, END);
	program(2, FINALIZE, END, END);
	sim_explore(2);
}

TEST(finalize_meets_a_crossing_and_a_flush_in_every_order)
{
	sim_create(CONFIG(.n_subbufs = 4));
	sim_prefix(3900);
	program(0, RECORD(500), RECORD(FILL), END);
	program(1, FLUSH_EMPTY(0), END, END);
	program(2, FINALIZE, END, END);
	sim_explore(2);
}

TEST(a_signal_at_any_access_records_too)
{
	sim_create(CONFIG(.n_subbufs = 4));
	sim_prefix(3000);
	program(0, RECORD(500), DISCARD(500), RECORD(500));
	sim.signals = 2;
	sim.signal_op = RECORD(100);
	sim.unordered = 1;
	sim_explore(0);
}

TEST(a_signal_at_any_access_discards)
{
	sim_create(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE, .start_pos = POS_END - 8192));
	sim_prefix(3990);
	sim_prefix(3800);
	program(0, RECORD(300), DISCARD(1500), RECORD(FILL));
	sim.signals = 2;
	sim.signal_op = DISCARD(100);
	sim.unordered = 1;
	sim_explore(0);
}

TEST(a_signal_at_any_access_meets_another_producer)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3800);
	program(0, RECORD(300), END, END);
	program(1, DISCARD(300), END, END);
	sim.signals = 1;
	sim.signal_op = RECORD(16);
	sim.unordered = 1;
	sim_explore(1);
}

TEST(a_signal_that_flushes_or_finalizes_at_any_access)
{
	struct op ops[] = {FLUSH(0), FLUSH_EMPTY(0), FINALIZE};

	for (unsigned int i = 0; i < ARRAY_SIZE(ops); i++) {
		sim_create(CONFIG(.n_subbufs = 4));
		sim_prefix(3800);
		program(0, RECORD(300), DISCARD(100), RECORD(100));
		sim.signals = 2;
		sim.signal_op = ops[i];
		sim.unordered = 1;
		sim_explore(0);
		sim_destroy();
	}
}

TEST(a_reader_dies_at_any_access_in_discard_mode)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3990);
	sim_prefix(3990);
	program(0, RECORD(3000), RECORD(3000), END);
	sim.reader_turns = 2;
	sim.deaths = 1;
	sim_explore(1);
}

TEST(a_reader_dies_at_any_access_while_producers_lap_it)
{
	sim_create(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE, .start_pos = POS_END - 8192));
	sim_prefix(3990);
	sim_prefix(3990);
	program(0, RECORD(3990), RECORD(3990), RECORD(3990));
	sim.reader_turns = 2;
	sim.deaths = 1;
	sim_explore(1);
}

TEST(a_reader_dies_at_any_access_of_a_snapshot)
{
	sim_create(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE));
	sim_prefix(3990);
	sim_prefix(3990);
	program(0, RECORD(3990), RECORD(3990), RECORD(3990));
	sim.reader_turns = 2;
	sim.habit = SNAPSHOTS;
	sim.deaths = 1;
	sim_explore(1);
}

TEST(a_reader_dies_at_any_access_of_a_clear)
{
	sim_create(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE));
	sim_prefix(3990);
	sim_prefix(3990);
	program(0, RECORD(3990), RECORD(3990), END);
	sim.reader_turns = 2;
	sim.habit = DROPS;
	sim.deaths = 1;
	sim_explore(1);
}

/* ---- random ---- */

TEST(random_schedules_of_a_global_stream_in_discard_mode)
{
	random_schedules(RINGBUF_DISCARD, 0, 1);
}

TEST(random_schedules_of_a_global_stream_in_overwrite_mode)
{
	random_schedules(RINGBUF_OVERWRITE, 0, 1);
}

TEST(random_schedules_of_two_cpus_in_discard_mode)
{
	random_schedules(RINGBUF_DISCARD, 2, 2);
}

TEST(random_schedules_of_two_cpus_in_overwrite_mode)
{
	random_schedules(RINGBUF_OVERWRITE, 2, 2);
}

TEST(random_schedules_of_two_cpus_that_share_a_stream)
{
	random_schedules(rnd_below(2) ? RINGBUF_OVERWRITE : RINGBUF_DISCARD, 1, 2);
}

TEST(random_schedules_of_four_cpus_that_share_two_streams)
{
	random_schedules(rnd_below(2) ? RINGBUF_OVERWRITE : RINGBUF_DISCARD, 2, 4);
}
