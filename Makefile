# sqsbridge: Amazon SQS and SQL, inside PostgreSQL

MODULE_big = sqsbridge
EXTENSION = sqsbridge
DATA = sqsbridge--1.0.sql
PGFILEDESC = "sqsbridge - Amazon SQS and SQL"

OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))

PG_CPPFLAGS = -I$(srcdir)/src -D_GNU_SOURCE $(shell $(CURL_CONFIG) --cflags)
PG_CFLAGS = -fvisibility=hidden -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers
SHLIB_LINK = $(shell $(CURL_CONFIG) --libs) $(if $(filter openssl,$(with_ssl)),-lcrypto)
CURL_CONFIG = curl-config

# regression tests that need no network; the server has to preload sqsbridge
REGRESS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))

# The TAP tests bring their own servers; test/check.sh runs them side by side.
# To be run by a user who may run initdb, once the extension is installed:
#	make prove_installcheck PROVE_TESTS='test/t/001*.pl'
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

PG_PROVE_FLAGS += -I $(srcdir)/test/t
.PHONY: prove_installcheck sqsd
prove_installcheck: sqsd
	$(prove_installcheck)
installcheck: sqsd
sqsd:
	$(MAKE) -C $(srcdir)/test/sqsd

# what the compiler does not tell make
$(OBJS): $(wildcard src/*/*.h) Makefile

# Types that the built objects name and the sources mention, for pgindent.
# "text" is left out: it is the name of variables more often than a type.  Without
# it, pgindent takes "text *reason" for a product, which indent then corrects.
SOURCES = $(wildcard src/*.[ch] src/*/*.[ch])
.PHONY: typedefs indent dist
typedefs: $(OBJS)
	{ objdump --dwarf=info $(OBJS) | awk '/DW_TAG_/ {t = /DW_TAG_typedef/} t && /DW_AT_name/ {print $$NF; t = 0}'; \
	  sed -nE 's/^\} ([A-Za-z0-9_]+);$$/\1/p' $(SOURCES); } | grep -vx text | LC_ALL=C sort -u >typedefs.all
	grep -ohE '[A-Za-z_][A-Za-z0-9_]*' $(SOURCES) | LC_ALL=C sort -u | \
	  LC_ALL=C comm -12 - typedefs.all >typedefs.list
	rm typedefs.all

# PostgreSQL's layout.  PGSRC is a source tree of PostgreSQL 19; see CONTRIBUTING.md.
indent:
	$(PGSRC)/src/tools/pgindent/pgindent --typedefs=typedefs.list \
		--indent=$(PGSRC)/src/tools/pg_bsd_indent/pg_bsd_indent $(SOURCES)
	grep -lE '\btext \* [a-z]' $(SOURCES) | xargs -r sed -i -E 's/\btext \* ([a-z])/text *\1/'

# What PGXN takes: the committed state, in a folder with its version.
DISTVERSION = $(shell sed -n 's/^   "version": "\(.*\)",/\1/p' META.json)
dist:
	git archive --prefix=sqsbridge-$(DISTVERSION)/ -o sqsbridge-$(DISTVERSION).zip HEAD
