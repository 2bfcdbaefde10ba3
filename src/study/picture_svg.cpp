// SPDX-License-Identifier: Apache-2.0
//
// The canvas: SVG elements as text. Numbers have at most two decimals, so that files stay small and
// equal input gives equal bytes.
#include "picture_svg.hpp"

#include <fmt/format.h>

#include <cmath>

namespace ng::svg {

namespace {

std::string number(double v) {
  std::string s = fmt::format("{:.2f}", v);
  while (s.back() == '0') s.pop_back();
  if (s.back() == '.') s.pop_back();
  return s == "-0" ? "0" : s;
}

std::string path_of(const std::vector<Point>& points) {
  std::string out;
  for (const Point& p : points) {
    if (!out.empty()) out += ' ';
    out += number(p.x) + ',' + number(p.y);
  }
  return out;
}

std::string stroke_of(const Stroke& s) {
  std::string out = fmt::format("stroke=\"{}\" stroke-width=\"{}\"", s.colour, number(s.width));
  if (!s.dash.empty()) out += fmt::format(" stroke-dasharray=\"{}\"", s.dash);
  if (s.opacity < 1) out += fmt::format(" stroke-opacity=\"{}\"", number(s.opacity));
  return out;
}

// The corners of a marker of unit radius, chosen so that all look equally large.
std::vector<Point> outline(Marker shape) {
  switch (shape) {
    case Marker::square:
      return {{-.85, -.85}, {.85, -.85}, {.85, .85}, {-.85, .85}};
    case Marker::triangle:
      return {{0, -1.15}, {1.05, .8}, {-1.05, .8}};
    case Marker::triangle_down:
      return {{0, 1.15}, {1.05, -.8}, {-1.05, -.8}};
    case Marker::diamond:
      return {{0, -1.25}, {1.25, 0}, {0, 1.25}, {-1.25, 0}};
    case Marker::cross:
      return {{-.35, -1.1}, {.35, -1.1}, {.35, -.35}, {1.1, -.35}, {1.1, .35},   {.35, .35},
              {.35, 1.1},   {-.35, 1.1}, {-.35, .35}, {-1.1, .35}, {-1.1, -.35}, {-.35, -.35}};
    case Marker::circle:
      break;
  }
  return {};
}

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') {
          out += "\xEF\xBF\xBD";
        } else {
          out += c;
        }
    }
  }
  return out;
}

double text_width(std::string_view text, double size) {
  double em = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) == 0x80) continue;  // not the first byte of a UTF-8 character
    if (std::string_view("iljtfI.,:;'|!()[]").find(c) != std::string_view::npos) {
      em += 0.33;
    } else if (std::string_view("mwMW@%").find(c) != std::string_view::npos) {
      em += 0.9;
    } else {
      em += c >= 'A' && c <= 'Z' ? 0.7 : 0.58;
    }
  }
  return em * size;
}

Canvas::Canvas(double width, double height, std::string title)
    : width_(width), height_(height), title_(std::move(title)) {}

void Canvas::line(Point a, Point b, const Stroke& stroke) {
  body_ += fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" {}/>\n", number(a.x), number(a.y), number(b.x),
                       number(b.y), stroke_of(stroke));
}

void Canvas::polyline(const std::vector<Point>& points, const Stroke& stroke) {
  if (points.size() < 2) return;
  body_ += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke-linejoin=\"round\" {}/>\n", path_of(points),
                       stroke_of(stroke));
}

void Canvas::polygon(const std::vector<Point>& points, const std::string& fill, double opacity) {
  body_ +=
      fmt::format("<polygon points=\"{}\" fill=\"{}\" fill-opacity=\"{}\"/>\n", path_of(points), fill, number(opacity));
}

void Canvas::rect(Point corner, double width, double height, const std::string& fill, double opacity) {
  body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" fill-opacity=\"{}\"/>\n",
                       number(corner.x), number(corner.y), number(width), number(height), fill, number(opacity));
}

void Canvas::frame(Point corner, double width, double height) {
  body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"{}\"/>\n",
                       number(corner.x), number(corner.y), number(width), number(height), kAxis);
}

void Canvas::marker(Marker shape, Point centre, double radius, const std::string& colour, bool filled) {
  const std::string fill = filled ? colour : "#ffffff";
  const std::string edge = filled ? "#ffffff" : colour;
  const double width = filled ? 0.8 : 1.5;
  if (shape == Marker::circle) {
    body_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"{}\" stroke=\"{}\" stroke-width=\"{}\"/>\n",
                         number(centre.x), number(centre.y), number(radius), fill, edge, number(width));
    return;
  }
  std::vector<Point> corners = outline(shape);
  for (Point& p : corners) p = {centre.x + radius * p.x, centre.y + radius * p.y};
  body_ += fmt::format("<polygon points=\"{}\" fill=\"{}\" stroke=\"{}\" stroke-width=\"{}\"/>\n", path_of(corners),
                       fill, edge, number(width));
}

void Canvas::text(Point at, std::string_view content, const TextStyle& style) {
  if (content.empty()) return;
  const char* anchor = style.anchor == Anchor::start ? "start" : style.anchor == Anchor::middle ? "middle" : "end";
  std::string extra;
  if (style.bold) extra += " font-weight=\"600\"";
  if (!style.upright) extra += fmt::format(" transform=\"rotate(-90 {} {})\"", number(at.x), number(at.y));
  body_ += fmt::format("<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{}\" fill=\"{}\"{}>{}</text>\n",
                       number(at.x), number(at.y), number(style.size), anchor, style.colour, extra, escape(content));
}

void Canvas::begin_clip(Point corner, double width, double height) {
  // A nested svg element clips without an id, which would have to be unique in the page that embeds it.
  ++clips_;
  body_ += fmt::format(
      "<svg x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{3}\" viewBox=\"{0} {1} {2} {3}\" "
      "overflow=\"hidden\">\n",
      number(corner.x), number(corner.y), number(width), number(height));
}

void Canvas::end_clip() {
  --clips_;
  body_ += "</svg>\n";
}

std::string Canvas::finish() const {
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" role=\"img\" "
      "font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\">\n<title>{2}</title>\n",
      number(width_), number(height_), escape(title_));
  out += fmt::format("<rect width=\"{}\" height=\"{}\" fill=\"#ffffff\"/>\n", number(width_), number(height_));
  return out + body_ + "</svg>\n";
}

}  // namespace ng::svg
