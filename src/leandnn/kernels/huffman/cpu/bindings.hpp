#pragma once

#include <nanobind/nanobind.h>

namespace leandnn {
void bind_huffman(nanobind::module_ &m);
}
