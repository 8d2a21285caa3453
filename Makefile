# sqsbridge: Amazon SQS and SQL, inside PostgreSQL

MODULE_big = sqsbridge
EXTENSION = sqsbridge
DATA = sqsbridge--1.0.sql
PGFILEDESC = "sqsbridge - Amazon SQS and SQL"

OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))

PG_CPPFLAGS = -I$(srcdir)/src -D_GNU_SOURCE $(shell $(CURL_CONFIG) --cflags)
PG_CFLAGS = -fvisibility=hidden -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers
SHLIB_LINK = $(shell $(CURL_CONFIG) --libs)
CURL_CONFIG = curl-config

# regression tests that need no network; the server has to preload sqsbridge
REGRESS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# what the compiler does not tell make
$(OBJS): $(wildcard src/*/*.h) Makefile
