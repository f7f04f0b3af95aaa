/* repair.h: producers, repairers and readers die anywhere, and only what was in flight is torn. */
#include "sim.h"

static unsigned long long given_up, repaired;

static void
count_repairs(const char *name)
{
	if (!strcmp(name, "repair_giving_up")) {
		sim.given_up++;
		given_up++;
	}
	repaired += !strcmp(name, "repair_counted");
}

/* All deaths of one producer, at any access, and all schedules of `bound` preemptions around them. */
static void
deaths_in_every_order(unsigned int deaths, unsigned int bound)
{
	sim.mortal = 1;
	sim.deaths = deaths;
	explore_passed = count_repairs;
	sim_explore(bound);
	printf("# %llu repaired, %llu given up\n", repaired, given_up);
	CHECK(repaired, "nothing was ever repaired");
}

TEST(a_producer_dies_at_any_access_of_a_record)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3000);
	program(0, RECORD(300), END, END);
	program(1, RECORD(400), END, END);
	deaths_in_every_order(1, 2);
	EQ(given_up, 0);
}

TEST(a_producer_dies_at_any_access_of_a_switch)
{
	sim_create(CONFIG(.n_subbufs = 2, .start_pos = POS_END - 8192));
	sim_prefix(3700);
	program(0, RECORD(300), RECORD(16), END);
	program(1, RECORD(400), END, END);
	deaths_in_every_order(1, 1);
	EQ(given_up, 0);
}

TEST(a_producer_dies_at_any_access_of_a_record_that_fills)
{
	sim_create(CONFIG(.n_subbufs = 2, .header = RINGBUF_LARGE));
	sim_prefix(3700);
	program(0, RECORD(FILL), END, END);
	program(1, RECORD(100), RECORD(FILL), END);
	deaths_in_every_order(1, 1);
	EQ(given_up, 0);
}

TEST(a_producer_dies_at_any_access_of_a_record_that_opens_and_fills)
{
	sim_create(CONFIG(.n_subbufs = 4));
	sim_prefix(3700);
	program(0, RECORD(4096 - 80 - 17), END, END);
	program(1, RECORD(16), END, END);
	deaths_in_every_order(1, 1);
	EQ(given_up, 0);
}

TEST(a_producer_dies_at_any_access_of_several_records_at_once)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3000);
	program(0, RECORDS(3, 100), END, END);
	program(1, RECORD(400), END, END);
	deaths_in_every_order(1, 2);
	EQ(given_up, 0);
}

TEST(a_producer_dies_at_any_access_of_several_records_that_switch_and_are_discarded)
{
	sim_create(CONFIG(.n_subbufs = 2, .header = RINGBUF_LARGE, .start_pos = POS_END - 8192));
	sim_prefix(3700);
	program(0, RECORDS(4, 100), DISCARDS(3, 33), END);
	program(1, RECORD(400), END, END);
	deaths_in_every_order(1, 1);
	EQ(given_up, 0);
}

/* The padding before them has fewer bytes than they are records. */
TEST(a_producer_dies_at_any_access_of_many_records_that_switch_near_the_end)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(4001);
	EQ(pos_of(sim.ch, 0), 4089);
	program(0, RECORDS(8, 16), END, END);
	program(1, RECORD(16), END, END);
	deaths_in_every_order(1, 1);
	EQ(given_up, 0);
}

TEST(two_producers_with_different_numbers_of_records_die)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3000);
	program(0, RECORDS(3, 41), END, END);
	program(1, RECORDS(2, 90), END, END);
	deaths_in_every_order(2, 1);
}

TEST(a_producer_dies_at_any_access_of_a_discard)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3500);
	program(0, DISCARD(200), RECORD(30), END);
	program(1, RECORD(250), END, END);
	deaths_in_every_order(1, 2);
	EQ(given_up, 0);
}

TEST(a_producer_dies_at_any_access_of_nested_records)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3500);
	program(0, NEST(200), NEST(500), RECORD(30));
	program(1, RECORD(25), END, END);
	deaths_in_every_order(1, 1);
	EQ(given_up, 0);
}

TEST(a_producer_dies_at_any_access_of_a_flush)
{
	sim_create(CONFIG(.n_subbufs = 4));
	sim_prefix(100);
	program(0, FLUSH(0), FLUSH_EMPTY(0), RECORD(16));
	program(1, RECORD(100), RECORD(100), END);
	deaths_in_every_order(1, 1);
	EQ(given_up, 0);
}

TEST(a_producer_dies_while_others_lap_it)
{
	sim_create(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE, .start_pos = POS_END - 8192));
	sim_prefix(3990);
	sim_prefix(3000);
	program(0, RECORD(300), RECORD(1000), END);
	program(1, RECORD(3990), RECORD(3990), RECORD(3990));
	deaths_in_every_order(1, 1);
	EQ(given_up, 0);
}

TEST(a_producer_dies_while_others_lap_it_and_a_reader_reads)
{
	sim_create(CONFIG(.n_subbufs = 2, .mode = RINGBUF_OVERWRITE));
	sim_prefix(3990);
	sim_prefix(3000);
	program(0, RECORD(300), RECORD(1000), END);
	program(1, RECORD(3990), RECORD(3990), END);
	sim.reader_turns = 2;
	deaths_in_every_order(2, 0);
}

TEST(a_producer_and_the_repairer_die)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3700);
	program(0, RECORD(300), END, END);
	program(1, REPAIR, END, END);
	deaths_in_every_order(2, 1);
	EQ(given_up, 0);
}

TEST(a_producer_and_the_repairer_of_an_open_packet_die)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(100);
	program(0, RECORD(300), END, END);
	program(1, RECORD(40), REPAIR, END);
	deaths_in_every_order(2, 1);
	EQ(given_up, 0);
}

TEST(two_repairers_meet_a_death)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3700);
	program(0, RECORD(300), END, END);
	program(1, REPAIR, END, END);
	program(2, REPAIR, END, END);
	deaths_in_every_order(1, 1);
	EQ(given_up, 0);
}

TEST(two_producers_with_records_of_different_sizes_die)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3300);
	program(0, RECORD(300), END, END);
	program(1, RECORD(340), END, END);
	deaths_in_every_order(2, 1);
	EQ(given_up, 0);
}

/* Both have sampled one position and their clocks; the times of both packets must still follow one another. */
TEST(two_producers_die_at_any_access_of_a_switch)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3700);
	program(0, RECORD(340), END, END);
	program(1, RECORD(340), END, END);
	deaths_in_every_order(2, 1);
}

TEST(two_producers_die_at_any_access_of_a_switch_and_a_flush)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3700);
	program(0, RECORD(340), END, END);
	program(1, FLUSH(0), END, END);
	deaths_in_every_order(2, 1);
}

/* Nobody can tell whether the one had counted its record or the other had claimed its own: rare, and counted. */
/* The one that lost the race for the boundary sampled it before another's record, and so before the packet's end. */
TEST(two_producers_die_over_a_boundary_at_different_positions)
{
	sim_create(CONFIG(.mode = RINGBUF_OVERWRITE, .n_subbufs = 2, .start_pos = POS_END - 8192));
	sim_prefix(3800);
	program(0, RECORD(16), END, END);
	program(1, RECORD(3990), END, END);
	program(2, RECORD(3990), END, END);
	deaths_in_every_order(2, 0);
}

/* Or at a position that was higher than the last one, but rolled back. */
TEST(two_producers_die_over_a_boundary_before_and_after_a_roll_back)
{
	static struct actor undoing, early, late;

	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3800);
	program(0, DISCARD(16), END, END);
	program(1, RECORD(3990), END, END);
	program(2, RECORD(3990), END, END);
	sim_save();
	sim.mortal = 1;
	actor_init(&undoing, produce, &sim.producers[0]);
	actor_init(&early, produce, &sim.producers[1]);
	actor_init(&late, produce, &sim.producers[2]);
	run_until(&undoing, "discard_undoing");
	run_until(&early, "ledger_claimed");
	run(&undoing);
	run_until(&late, "reserve_claimed_slow");
	producer_dies(&early);
	producer_dies(&late);
	sim_check();
}

TEST(two_producers_with_records_of_one_size_die)
{
	sim_create(CONFIG(.n_subbufs = 2));
	sim_prefix(3300);
	program(0, RECORD(300), END, END);
	program(1, RECORD(300), END, END);
	program(2, RECORD(300), END, END);
	deaths_in_every_order(2, 0);
	CHECK(given_up, "no doubt was ever met");
}

/* ---- random ---- */

static void
random_deaths(int mode, uint32_t n_streams, uint32_t n_cpus)
{
	sim_mortals = 1;
	explore_passed = count_repairs;
	random_schedules(mode, n_streams, n_cpus);
	printf("# %llu repaired, %llu given up\n", repaired, given_up);
	CHECK(repaired, "nothing was ever repaired");
}

TEST(random_deaths_in_a_global_stream_in_discard_mode)
{
	random_deaths(RINGBUF_DISCARD, 0, 1);
}

TEST(random_deaths_in_a_global_stream_in_overwrite_mode)
{
	random_deaths(RINGBUF_OVERWRITE, 0, 1);
}

TEST(random_deaths_on_two_cpus)
{
	random_deaths(rnd_below(2) ? RINGBUF_OVERWRITE : RINGBUF_DISCARD, 2, 2);
}

TEST(random_deaths_on_four_cpus_that_share_two_streams)
{
	random_deaths(rnd_below(2) ? RINGBUF_OVERWRITE : RINGBUF_DISCARD, 2, 4);
}
