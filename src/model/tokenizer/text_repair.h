// The part of ftfy.fix_text (6.3) that Wan's cleaning of prompts relies on.
//
// Done as ftfy does, per line and repeated until nothing changes: HTML references that end in ';'
// (unless the line, or one before it, has a '<'); C1 controls read as windows-1252; Latin ligatures
// taken apart; full-width and half-width forms and the ideographic space made normal; curly quotes
// made straight; terminal escapes and control characters removed; NFC.
// Mojibake: only text that is UTF-8 read as Latin-1 throughout and shows it by a C1 control.
// Left out: ftfy's other mojibake heuristics, and its upper-case names ("&EACUTE;"). Line breaks
// stay as they are: the collapse of white space that follows makes a blank of each.
#pragma once

#include <string>
#include <string_view>

namespace mrt {

std::u32string RepairText(std::u32string_view text);

}  // namespace mrt
