"""What the fields of ${view.a_words} must satisfy."""

${imports}

RULES: ${view.final}[${view.mapping}[str, ${view.rule}]] = {
% for rule in view.rules:
    "${rule.name}": ${rule.text},
% endfor
}
