// What a request comes to, written down: every setting after aliases, defaults and the model's own, for the render routes.
#pragma once

#include "base/json.h"
#include "server/inference_request.h"

namespace neutrino::server {

// `sampling` is the request's, after fit_into_context(). Names are those of the body's fields; of several aliases, the first that the
// tables of request_fields.h name. "structured_outputs" is the constraint on the whole answer, tools included.
json::object request_json(const InferenceRequest& request, const chat::SamplingParameters& sampling);

}  // namespace neutrino::server
