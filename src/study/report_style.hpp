// SPDX-License-Identifier: Apache-2.0
//
// The style sheet of the report. Private to this layer.
#pragma once

namespace ng {

inline constexpr const char* kReportStyle = R"(
:root { color-scheme: light; }
body { font: 16px/1.5 Helvetica, Arial, "Liberation Sans", "DejaVu Sans", sans-serif; color: #1a1a1a; background: #fff;
  max-width: 62rem; margin: 0 auto; padding: 1rem 1.2rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .6rem 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid #ccc; padding-bottom: .2rem; }
p, li { max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .55rem; text-align: right; vertical-align: top; border-bottom: 1px solid #e3e3e3; white-space: nowrap; }
th { border-bottom: 2px solid #888; font-weight: 600; white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child, td.words, th.words { text-align: left; }
td.sentence { white-space: normal; min-width: 18rem; text-align: left; }
td.strong { font-weight: 600; }
details { margin: .5rem 0; }
summary { cursor: pointer; font-weight: 600; padding: .2rem 0; }
figure { margin: 1.4rem 0 1.8rem; }
figure svg { width: 100%; min-width: 640px; height: auto; display: block; }
figcaption { font-size: .9rem; color: #333; max-width: 52rem; margin-top: .4rem; }
figcaption b { color: #1a1a1a; }
.note { background: #f4f4f4; border-left: 4px solid #888; padding: .5rem .9rem; margin: .6rem 0; }
.note p { margin: .25rem 0; }
code { font-size: .85em; overflow-wrap: anywhere; }
@media print { body { max-width: none; font-size: 10pt; padding: 0; } figure, tr { break-inside: avoid; }
  .wide { overflow: visible; } figure svg { min-width: 0; } th, td { padding: .15rem .35rem; } table { font-size: 8pt; } }
)";

}  // namespace ng
