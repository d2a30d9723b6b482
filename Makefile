# Builds the library and its programs, and installs them with the C header of what KCM sockets can do beyond the kernel's.
#
#   make
#   make install PREFIX=/usr/local DESTDIR=
#   make uninstall PREFIX=/usr/local DESTDIR=

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo
INSTALL ?= install

CARGO_TARGET_DIR ?= target
RELEASE  = $(CARGO_TARGET_DIR)/release
BINDIR   = $(DESTDIR)$(PREFIX)/bin
LIBDIR   = $(DESTDIR)$(PREFIX)/lib
INCLUDEDIR = $(DESTDIR)$(PREFIX)/include/preloop
PROGRAMS = smc_run smcss kcm_run kcmss
LIBRARY  = libpreloop.so

export CARGO_TARGET_DIR

.PHONY: all install uninstall

all:
	$(CARGO) build --release -p preloop -p preloop-launcher

# Builds nothing, so that root needs no toolchain: run make first. The library goes in under a new name and is then
# moved into place: processes that run with the old one keep it.
install:
	@for file in $(PROGRAMS) $(LIBRARY); do \
	    test -f "$(RELEASE)/$$file" || { echo "$(RELEASE)/$$file is missing: run make first" >&2; exit 1; }; \
	done
	$(INSTALL) -d "$(BINDIR)" "$(LIBDIR)" "$(INCLUDEDIR)"
	for program in $(PROGRAMS); do $(INSTALL) -m 755 "$(RELEASE)/$$program" "$(BINDIR)/$$program" || exit 1; done
	$(INSTALL) -m 755 "$(RELEASE)/$(LIBRARY)" "$(LIBDIR)/.$(LIBRARY).new"
	mv -f "$(LIBDIR)/.$(LIBRARY).new" "$(LIBDIR)/$(LIBRARY)"
	$(INSTALL) -m 644 compat/include/preloop/kcm.h "$(INCLUDEDIR)/kcm.h"

uninstall:
	for program in $(PROGRAMS); do rm -f "$(BINDIR)/$$program" || exit 1; done
	rm -f "$(LIBDIR)/$(LIBRARY)" "$(INCLUDEDIR)/kcm.h"
	-rmdir "$(INCLUDEDIR)" 2>/dev/null
