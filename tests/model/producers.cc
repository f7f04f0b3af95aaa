/* tests/model/producers.cc - producers against one another, without a reader. */
#include "model.h"

static void half(void) { model_write(MODEL_HALF); }
static void half_twice(void) { model_write(MODEL_HALF); model_write(MODEL_HALF); }
static void third_twice(void) { model_write(MODEL_THIRD); model_write(MODEL_THIRD); }
static void full(void) { model_write(MODEL_FULL); }
static void full_twice(void) { model_write(MODEL_FULL); model_write(MODEL_FULL); }
static void full_thrice(void) { model_write(MODEL_FULL); model_write(MODEL_FULL); model_write(MODEL_FULL); }

static const struct model models[] = {
	{"producers_half_discard", MODEL_DISCARD_2, {half_twice, half}, NULL, NULL, false},
	{"producers_third_discard", MODEL_DISCARD_2, {third_twice, third_twice}, NULL, NULL, false},
	{"producers_full_overwrite", MODEL_OVERWRITE_2, {full_thrice, full}, NULL, NULL, false},
	{"producers_mixed_overwrite", MODEL_OVERWRITE_2, {full_twice, third_twice}, NULL, NULL, false},
	{"producers_three_overwrite", MODEL_OVERWRITE_2, {full_twice, half_twice, full}, NULL, NULL, false},
};
MODEL_TABLE(models);
