// SPDX-License-Identifier: Apache-2.0
//
// The compiled part of fmt 9 and 10, instantiated here once. Distributions ship no static fmt, and
// header-only use costs seconds in every file that formats text. The build picks header-only for
// versions that this file does not know.

#include <fmt/format-inl.h>

#if FMT_VERSION < 90000 || FMT_VERSION >= 110000
#error "fmt_library.cpp knows fmt 9 and 10 only; use FMT_HEADER_ONLY with this version"
#endif

FMT_BEGIN_NAMESPACE
namespace detail {

template FMT_API auto dragonbox::to_decimal(float x) noexcept -> dragonbox::decimal_fp<float>;
template FMT_API auto dragonbox::to_decimal(double x) noexcept -> dragonbox::decimal_fp<double>;

#ifndef FMT_STATIC_THOUSANDS_SEPARATOR
template FMT_API locale_ref::locale_ref(const std::locale& loc);
template FMT_API auto locale_ref::get<std::locale>() const -> std::locale;
#endif

template FMT_API auto thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
template FMT_API auto decimal_point_impl(locale_ref) -> char;
template FMT_API void buffer<char>::append(const char*, const char*);
#if FMT_VERSION >= 100000
template FMT_API void vformat_to(buffer<char>&, string_view, typename vformat_args<>::type, locale_ref);
#else
template FMT_API void vformat_to(buffer<char>&, string_view, basic_format_args<FMT_BUFFER_CONTEXT(char)>,
                                 locale_ref);
#endif

}  // namespace detail
FMT_END_NAMESPACE
