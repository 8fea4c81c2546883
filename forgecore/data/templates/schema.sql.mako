-- The tables of the resources. `forgecore migrate diff` compares the database with them.
% for table in view.tables:

CREATE TABLE ${table.name} (
    ${block(table.lines)}
);
% for index in table.indexes:
${index}
% endfor
% endfor
% for reference in view.references:

${block(reference)}
% endfor
