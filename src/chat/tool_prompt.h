// Conversations with tools, as templates take them.
#pragma once

#include <string>

#include "chat/chat_template.h"
#include "chat/message.h"

namespace neutrino::chat {

// Renders with what tools need: arguments of earlier calls as objects, which most templates want (or as text, where a template
// fails on objects); and for a template that knows nothing of tools they are described in the system message, in the words
// of the hermes syntax, and calls and their results become text. Throws as ChatTemplate::render().
std::string render_with_tools(const ChatTemplate& chat_template, const Conversation& conversation);

}  // namespace neutrino::chat
