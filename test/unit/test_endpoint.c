#include "postgres_fe.h"
#include "tap.h"
void test_endpoint(void) {}
