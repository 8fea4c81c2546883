"""The resource ${view.name}: its records, its inputs and its columns."""

${imports}

% for alias in view.aliases:
${alias.name} = ${alias.type}
% endfor


@${view.frozen}
class ${view.name}:
    """${view.of_tenant}."""

% for attribute in view.record:
    ${attribute.text}
% endfor


@${view.frozen}(kw_only=True)
class ${view.name}Create:
    """What ${view.new_words} is made of."""

% for attribute in view.create:
    ${attribute.text}
% endfor


@${view.frozen}(kw_only=True)
class ${view.name}Update:
    """What to change of ${view.a_words}; a field left out stays as it is."""

% for attribute in view.update:
    ${attribute.text}
% endfor


class ${view.name}Columns:
    """Columns to filter and to sort by."""

% for column in view.columns:
    ${column.name}: ${view.final} = ${column.text}
% endfor
