#pragma once

#include <nanobind/nanobind.h>

namespace leandnn {
void bind_panels(nanobind::module_ &m);
}
